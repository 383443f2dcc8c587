"""Facts the dialogue is about: plain tables, written for this model."""

CAPITALS = dict(x.split(":") for x in """France:Paris,Germany:Berlin,Italy:Rome,Spain:Madrid,Portugal:Lisbon,England:London,
Ireland:Dublin,Scotland:Edinburgh,Norway:Oslo,Sweden:Stockholm,Finland:Helsinki,Denmark:Copenhagen,Poland:Warsaw,Austria:Vienna,
Hungary:Budapest,Greece:Athens,Turkey:Ankara,Russia:Moscow,Ukraine:Kyiv,Romania:Bucharest,Bulgaria:Sofia,Serbia:Belgrade,
Croatia:Zagreb,Belgium:Brussels,Switzerland:Bern,Iceland:Reykjavik,Japan:Tokyo,China:Beijing,India:New Delhi,Thailand:Bangkok,
Vietnam:Hanoi,Indonesia:Jakarta,Iran:Tehran,Iraq:Baghdad,Egypt:Cairo,Kenya:Nairobi,Ethiopia:Addis Ababa,Morocco:Rabat,
Algeria:Algiers,Tunisia:Tunis,Canada:Ottawa,Mexico:Mexico City,Cuba:Havana,Brazil:Brasilia,Argentina:Buenos Aires,Chile:Santiago,
Peru:Lima,Colombia:Bogota,Australia:Canberra,New Zealand:Wellington""".replace("\n", "").split(","))

OPPOSITES = dict(x.split(":") for x in """hot:cold,big:small,fast:slow,high:low,up:down,left:right,day:night,light:dark,old:young,
new:old,good:bad,happy:sad,open:closed,full:empty,hard:soft,wet:dry,long:short,rich:poor,strong:weak,early:late,near:far,
inside:outside,first:last,true:false,love:hate,start:stop,win:lose,buy:sell,push:pull,clean:dirty,loud:quiet,thick:thin,
heavy:light,wide:narrow,deep:shallow,easy:difficult,cheap:expensive,yes:no,on:off,before:after,above:below,front:back,
summer:winter,north:south,east:west,black:white,sweet:bitter,brave:afraid,asleep:awake,give:take""".replace("\n", "").split(","))

COLOURS = dict(x.split(":") for x in """the sky:blue,grass:green,snow:white,coal:black,a banana:yellow,blood:red,an orange:orange,
the sea:blue,milk:white,a lemon:yellow,a strawberry:red,a carrot:orange,chocolate:brown,an elephant:grey,a tomato:red,
a cucumber:green,the sun:yellow,a flamingo:pink,a crow:black,a ruby:red,an emerald:green,salt:white,wood:brown,
a plum:purple""".replace("\n", "").split(","))

SOUNDS = dict(x.split(":") for x in """dog:woof,cat:meow,cow:moo,sheep:baa,duck:quack,pig:oink,horse:neigh,lion:roar,frog:croak,
owl:hoot,bee:buzz,snake:hiss,mouse:squeak,rooster:cock-a-doodle-doo""".replace("\n", "").split(","))

LEGS = dict(x.split(":") for x in """dog:4,cat:4,cow:4,horse:4,spider:8,ant:6,bee:6,bird:2,duck:2,snake:0,fish:0,human:2,octopus:8,
crab:10,lion:4,frog:4""".replace("\n", "").split(","))

YOUNG = dict(x.split(":") for x in """dog:puppy,cat:kitten,cow:calf,sheep:lamb,duck:duckling,pig:piglet,horse:foal,lion:cub,bear:cub,
frog:tadpole,hen:chick,goat:kid,swan:cygnet,goose:gosling,deer:fawn""".replace("\n", "").split(","))

KINDS = dict(x.split(":") for x in """apple:a fruit,banana:a fruit,cherry:a fruit,pear:a fruit,carrot:a vegetable,potato:a vegetable,
onion:a vegetable,rose:a flower,tulip:a flower,oak:a tree,pine:a tree,dog:an animal,whale:an animal,eagle:a bird,owl:a bird,
salmon:a fish,shark:a fish,hammer:a tool,saw:a tool,piano:a musical instrument,violin:a musical instrument,drum:a musical instrument,
gold:a metal,iron:a metal,copper:a metal,Mars:a planet,Venus:a planet,Python:a programming language,C:a programming language,
chair:a piece of furniture,table:a piece of furniture,car:a vehicle,train:a vehicle,bee:an insect,ant:an insect,
cheese:a food,bread:a food,tea:a drink,coffee:a drink,shirt:a piece of clothing""".replace("\n", "").split(","))

FRENCH = dict(x.split(":") for x in """hello:bonjour,goodbye:au revoir,thanks:merci,yes:oui,no:non,cat:chat,dog:chien,house:maison,
water:eau,bread:pain,milk:lait,sun:soleil,moon:lune,red:rouge,blue:bleu,green:vert,white:blanc,black:noir,man:homme,woman:femme,
book:livre,tree:arbre,fish:poisson,apple:pomme,friend:ami,day:jour,night:nuit,school:ecole,car:voiture,
door:porte""".replace("\n", "").split(","))

PLURALS = dict(x.split(":") for x in """cat:cats,dog:dogs,mouse:mice,child:children,foot:feet,tooth:teeth,goose:geese,man:men,woman:women,
box:boxes,baby:babies,leaf:leaves,knife:knives,sheep:sheep,fish:fish,city:cities,wolf:wolves,book:books,bus:buses,
person:people""".replace("\n", "").split(","))

PAST = dict(x.split(":") for x in """go:went,see:saw,eat:ate,run:ran,take:took,give:gave,come:came,write:wrote,read:read,drink:drank,
sing:sang,swim:swam,buy:bought,think:thought,find:found,make:made,fly:flew,sleep:slept,speak:spoke,
walk:walked""".replace("\n", "").split(","))

UNITS = dict(x.split(":") for x in """minutes are in an hour:60,seconds are in a minute:60,hours are in a day:24,days are in a week:7,
months are in a year:12,days are in a year:365,weeks are in a year:52,metres are in a kilometre:1000,grams are in a kilogram:1000,
centimetres are in a metre:100,bits are in a byte:8,years are in a century:100,years are in a decade:10,sides does a triangle have:3,
sides does a square have:4,sides does a hexagon have:6,letters are in the alphabet:26,planets orbit the sun:8,
continents are there:7,eggs are in a dozen:12,strings does a violin have:4,players are in a football team:11,
wheels does a car have:4,wheels does a bicycle have:2,bytes are in a kilobyte:1024""".replace("\n", "").split(","))

DEFINITIONS = dict(x.split("|") for x in """rain|Rain is water that falls from clouds.
snow|Snow is frozen water that falls from clouds.
wind|Wind is moving air.
the sun|The sun is the star at the centre of our solar system.
the moon|The moon is a rocky body that orbits the Earth.
a river|A river is a stream of water that flows to the sea.
an island|An island is land with water all around it.
a desert|A desert is a dry place with very little rain.
a volcano|A volcano is a mountain from which hot lava can come out.
an earthquake|An earthquake is a shaking of the ground.
gravity|Gravity is the force that pulls things towards each other.
ice|Ice is frozen water.
steam|Steam is water in the form of a gas.
a library|A library is a place that keeps books for people to read.
a school|A school is a place where people learn.
a hospital|A hospital is a place where sick people are treated.
a computer|A computer is a machine that follows programs.
a program|A program is a list of instructions for a computer.
the internet|The internet is a network that connects computers all over the world.
a database|A database is a store of data that programs can search.
an algorithm|An algorithm is a set of steps that solves a problem.
a byte|A byte is a group of eight bits.
a triangle|A triangle is a shape with three sides.
a circle|A circle is a round shape; all its points are equally far from the centre.
a bridge|A bridge lets people cross a river or a road.
a clock|A clock is a device that shows the time.
a map|A map is a drawing that shows where places are.
honey|Honey is a sweet food made by bees.
cheese|Cheese is a food made from milk.
a noun|A noun is a word for a person, a place or a thing.
a verb|A verb is a word for an action.
a prime number|A prime number can be divided only by one and itself.""".split("\n"))

GUILDHALL = [tuple(x.split("|")) for x in """What is Guildhall?|Tell me about Guildhall.|Guildhall is a cluster that serves mixture-of-experts language models.
What does the router do?|What is the router for?|The router runs attention, picks the experts for each token and samples the next token.
What does an expert worker do?|What are the workers for?|An expert worker holds some of the experts and computes them for the tokens it gets.
What is an expert?|Explain experts.|An expert is a small network inside a layer; only a few of them run for each token.
What is a mixture of experts?|Explain mixture of experts.|A mixture of experts is a model in which each token uses only a few of many small networks.
What does the gateway do?|What is the gateway for?|The gateway takes requests from clients and passes them to a router.
What is Redis for in Guildhall?|Why does Guildhall use Redis?|Redis holds the shared state: the queue, the members and the placement of experts.
How do the router and the workers talk?|What protocol connects router and workers?|They talk over gRPC.
What is a placement?|Explain placement.|A placement says which worker holds which experts.
What happens when a worker is lost?|What if a worker fails?|The router sends the rows to a replica, or another worker loads the lost experts.
What is a replica?|Explain replicas.|A replica is a second copy of an expert on another worker.
What is load balancing?|Explain load balancing.|Load balancing moves or copies busy experts so that all workers have about the same work.
What is a token?|Explain tokens.|A token is a piece of text, often a word or a part of a word.
What is the KV cache?|Explain the KV cache.|The KV cache keeps the keys and values of past tokens so that they are not computed again.
What is a tokenizer?|Explain tokenizers.|A tokenizer cuts text into tokens and joins tokens back into text.
What is attention?|Explain attention.|Attention lets each token look at the tokens before it.
What is linear attention?|Explain linear attention.|Linear attention keeps a small state of fixed size instead of all past keys and values.
What is a language model?|Explain language models.|A language model predicts the next token of a text.
What is prefill?|Explain prefill.|Prefill is the first pass over the prompt, before any token is generated.
What is decoding?|Explain decoding.|Decoding is the step by step generation of new tokens.
What is a batch?|Explain batches.|A batch is a group of requests that are computed together.
What is streaming?|Explain streaming.|Streaming sends each token to the client as soon as it is ready.
What API does Guildhall speak?|Which API can clients use?|Clients can use the OpenAI chat API.
What is speculative decoding?|Explain speculative decoding.|Speculative decoding guesses several tokens and checks them in one pass.
What is sampling?|Explain sampling.|Sampling picks the next token from the probabilities that the model gives.
What is a shard?|Explain shards.|A shard is the part of a model that one worker holds.
What does the controller do?|What is the controller for?|The controller watches the load and decides where experts live.
What is a checkpoint?|Explain checkpoints.|A checkpoint is the set of files that hold the weights of a model.""".split("\n")]

LISTS = [tuple(x.split("|")) for x in """fruits|apple, banana, cherry
vegetables|carrot, potato, onion
colours|red, green, blue
animals|dog, cat, horse
birds|eagle, owl, duck
planets|Mars, Venus, Earth
metals|gold, iron, copper
flowers|rose, tulip, daisy
drinks|tea, coffee, milk
tools|hammer, saw, drill
seasons|spring, summer, winter
countries|France, Japan, Brazil
cities|Paris, Tokyo, London
instruments|piano, violin, drum
shapes|circle, square, triangle
sports|football, tennis, swimming""".split("\n")]

YES_NO = [tuple(x.split("|")) for x in """Is the sun hot?|Yes, the sun is very hot.
Is ice hot?|No, ice is cold.
Can birds fly?|Yes, most birds can fly.
Can fish fly?|No, fish swim.
Is water wet?|Yes, water is wet.
Is the Earth flat?|No, the Earth is round.
Is two a prime number?|Yes, two is a prime number.
Is a whale a fish?|No, a whale is a mammal.
Is snow cold?|Yes, snow is cold.
Do cows give milk?|Yes, cows give milk.
Can a snake walk?|No, a snake has no legs.
Is gold a metal?|Yes, gold is a metal.
Is a tomato blue?|No, a tomato is red.
Do bees make honey?|Yes, bees make honey.
Is London in France?|No, London is in England.
Is Paris in France?|Yes, Paris is the capital of France.
Is the moon a star?|No, the moon orbits the Earth.
Can computers think?|Computers follow programs; they do not think as people do.""".split("\n")]

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
MONTH_DAYS = dict(zip(MONTHS, [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]))
NAMES = """Anna Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Maria Nina Oscar Paul Rosa Sam Tom Vera Will Zoe Alice Bob
Carol Dora Eric Frank Gina Hugo Iris Jonas""".split()
CITIES = "Paris London Berlin Rome Madrid Tokyo Oslo Vienna Cairo Lima Dublin Athens Warsaw Prague Boston Sydney".split()
WORDS = """apple river stone house tree moon star lamp chair table horse bird fish cloud rain snow wind fire gold iron bread milk cheese
sugar salt tea road bridge tower garden door window mirror clock paper pencil book letter map ship train wheel hammer key ring crown
sword shield castle forest mountain valley island desert ocean lake field flower rose leaf seed root honey bee ant spider wolf bear
lion tiger mouse cat dog sheep goat cow pig duck eagle owl drum piano violin bell candle basket bottle cup plate spoon knife fork
coat shirt shoe hat glove scarf button needle thread rope net box bag coin silver copper glass brick""".split()
